"""Files of `report` and `analyze`: tables, pictures and a page of the artifacts that are chosen."""
