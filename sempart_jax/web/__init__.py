"""The local web page: a picture goes in, its masks and its cut-out come out."""
