"""What the product is made of and how it is handed on: licences, bill of materials, release. Not part of the wheel."""
