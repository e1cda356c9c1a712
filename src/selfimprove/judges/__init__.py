"""Text in, a judgement out: answers read and compared, votes held."""
