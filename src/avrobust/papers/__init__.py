"""What single papers say and do, one folder for each.  The rest of the package knows none of them."""
