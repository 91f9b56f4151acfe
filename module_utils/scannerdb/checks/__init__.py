"""What is wrong with a database: one small unit for each rule, and the report."""
