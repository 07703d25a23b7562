# Gives the workspace back.
reply=$(locked 50 release) || reply=BUSY
say "${reply:-AMBIGUOUS}"
