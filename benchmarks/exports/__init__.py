"""What ``benchmarks.export_matrix`` compares: an export loaded here, in another Python, by a server, by llama.cpp."""
