"""Messages of public serving APIs, generated from proto/*.proto, in a pool of their own."""
