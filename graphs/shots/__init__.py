"""The shot library: shots of videos, their descriptions, and finding them by what a scene needs."""
