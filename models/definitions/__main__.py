"""python -m models.definitions: write what is generated in the zoo, and count its nets anew."""

from models.definitions import index

index.refresh()
