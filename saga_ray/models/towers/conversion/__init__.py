"""Tools that turn published weights into towers: of any vision model of transformers (`external`), or, with
the extra ``[build]``, into the one that ships."""
