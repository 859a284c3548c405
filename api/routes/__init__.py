"""The routes: each declares who may call it, does one thing, and answers by the contract."""
