"""Clusters of streaming servers: which server is a member of which."""
