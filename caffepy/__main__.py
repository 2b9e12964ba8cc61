from caffepy.cli import main

main()
