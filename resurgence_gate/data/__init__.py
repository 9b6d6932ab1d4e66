"""What a check takes from elsewhere: tables of prompts and benign pictures with captions, local or from the Hub."""
