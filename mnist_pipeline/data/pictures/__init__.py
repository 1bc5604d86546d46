"""From pictures of any size, colour and light to images like those a model was trained on."""
