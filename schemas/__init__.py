"""What is fixed between the parts: words, columns and files of schemas. Imports neither of the other packages."""
