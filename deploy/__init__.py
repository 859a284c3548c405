"""How Quillgate is run and shipped: the local stack, and what a fresh machine lacks."""
