"""Users and items: files of ratings, models of them, rankings, and what is asked of these."""
