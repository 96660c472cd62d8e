"""Features of one's own videos and sentences: `decode` finds a frame for each clip, `encode` turns frames and
words into CLIP features, `job` writes them as files that the library's loaders read, `folder` reads them."""
