"""Settings as typed models, presets, overrides. Imports neither torch nor ray, so `saga --help` is quick."""
