"""Files as people have them: what a phone, a browser, a camera or an editor writes, asked by the routes that read it."""
