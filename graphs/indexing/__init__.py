"""What is found in a video in one decode of it: people, shots, camera movements."""
