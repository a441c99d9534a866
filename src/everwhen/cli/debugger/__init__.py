"""The debugger's prompt ``(timedb)``: what can be typed there, and how it answers."""
