//! What is asked of the ledger without changing it.
