"""Tools that turn published weights into towers: of a vision transformer of transformers (`external`)
or of `timm`, or, with the extra ``[build]``, into the one that ships."""
