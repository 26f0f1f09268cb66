"""From weights to a model folder: torch modules shaped to the contract; torch is imported here."""
