"""Arrays in, arrays out: knows neither Django nor Celery nor our applications."""
