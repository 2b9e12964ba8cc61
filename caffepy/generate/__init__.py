"""Making sequences by a net that says what comes next: token by token, its state kept between them."""
