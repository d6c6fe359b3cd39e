//! Checks that the ledger is whole.
