"""The command line: one module for each verb, a thin layer over the library."""
