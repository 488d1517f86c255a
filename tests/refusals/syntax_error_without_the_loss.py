# energy-patch apply
# refused (unreadable), line 3: not valid Python
def (
