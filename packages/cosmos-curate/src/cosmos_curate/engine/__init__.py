"""How stages are run: storage, ledger, retries, workers, and what is measured of them."""
