// A script that starts and says nothing.
