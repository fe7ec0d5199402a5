"""One module per input format, each a function from a part of a file to series batches."""
