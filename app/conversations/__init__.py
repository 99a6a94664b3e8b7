"""From raw lines to tokens: what upload check, preview and trainer share. Imports no torch.

record -> `normalize` -> Conversation -> `render.Renderer` -> Encoded (ids and which of them are targets)
"""
