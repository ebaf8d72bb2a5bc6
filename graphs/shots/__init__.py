"""The shot library: shots of videos, what is said of them, and finding them by what a scene needs."""
