"""How much? Every rate, quota and lease of a key, decided in one Redis round trip."""
