# Thin: each line calls a command that a person could type. Windows has no make: see README.md.
PYTHON ?= python3

course:            ## set up, run every lesson, leave executed copies and a report under build/
	$(PYTHON) scripts/run.py course

test:              ## set up, then ruff, unit tests, slow tests, nbmake
	$(PYTHON) scripts/run.py test

lab:               ## set up, open JupyterLab on the lessons
	$(PYTHON) scripts/run.py lab

setup:             ## set up .venv and nothing else
	$(PYTHON) scripts/run.py setup

site:              ## set up, build the site from what `make course` left; runs no notebook
	$(PYTHON) scripts/run.py site

bench:             ## measure speed against other libraries; set COURSE_REAL_DATA to a folder of real ranking sets
	$(PYTHON) scripts/run.py bench

test-browser:      ## open lessons in JupyterLab in a real browser
	$(PYTHON) scripts/run.py test-browser

.PHONY: course test lab setup site bench test-browser
