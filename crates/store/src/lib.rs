//! One store over SQLite or PostgreSQL (being built): see `Tx` for what rules may do inside a transaction.
