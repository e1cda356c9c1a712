"""The only floor that may read gold answers: it measures, and builds the control arms."""
