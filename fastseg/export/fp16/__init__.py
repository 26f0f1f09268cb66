"""Mixed-precision graphs: the precision of each block decided by measuring it."""
