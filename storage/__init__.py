"""PostgreSQL: models, sessions and one module of queries a noun. SQL lives here and nowhere else."""
