"""A model small enough to train in seconds, and real."""
