"""The only I/O that workflows have: one class a concern, dependencies by constructor, each safe to repeat."""
