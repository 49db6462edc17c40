"""Commands that make what the repository holds: figures, pictures, requirement lists."""
