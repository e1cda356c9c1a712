"""What a program imports: models, methods, results, and the steps of LMSI one by one."""
