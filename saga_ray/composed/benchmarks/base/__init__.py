"""What the benchmarks share: pictures, queries, rankings, measures, annotations, prediction files."""
