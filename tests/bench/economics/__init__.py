"""The economics of the production ledger, measured."""
