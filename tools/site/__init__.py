"""What MkDocs needs to make the site of docs/: see mkdocs.yml."""
