"""Files as people have them: what phones, browsers, cameras and editors write, asked by the routes that read them."""
