"""The paper's tables: what they say, how their rows are trained and evaluated, how they print."""
