"""Tables: files of columns, of which TableData makes batches."""
