"""What a curated folder holds: the funnel of the rules, distributions, and a page that shows them with thumbnails."""
