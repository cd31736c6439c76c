"""Ordinary questions: what people ask a model about anything. Their n-grams and words distinguish no pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engram_bench.memory.query import Query, prompt_query
from engram_bench.patterns.ordinary import ordinary_prompts
from engram_bench.records import Prompt

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer

QUESTIONS: tuple[str, ...] = tuple(
    """\
Who wrote Don Quixote?
Which animal is the fastest on land?
How many legs does a spider have?
What should I cook tonight?
What time is it in Tokyo when it is noon in London?
Translate 'good morning' into Italian.
Summarise the plot of Hamlet in two sentences.
How do I remove a coffee stain from a shirt?
What is 12 times 12?
Name a country in South America.
What is the plural of mouse?
How far is it from Paris to Berlin?
Is it going to rain tomorrow?
What is the best way to learn the piano?
Which vitamins are in an orange?
When was the telephone invented?
How do airplanes stay in the air?
What does the word serendipity mean?
Correct the spelling of 'recieve'.
Give me a name for a small brown dog.
Why is the sky dark at night?
Tell me about the history of Rome.
What is the difference between a frog and a toad?
Write a short poem about the sea.
How many minutes are there in a day?
Which planet has the most moons?
Explain inflation to a child.
What is a good gift for a ten-year-old?
How do you make pancakes without eggs?
Who was the first woman to win a Nobel Prize?
What is the highest mountain in Africa?
List three advantages of working from home.
Can dogs eat chocolate?
What language do they speak in Austria?
How long does it take to boil an egg?
What is the currency of Sweden?
Write a polite email to decline an invitation.
Why do cats purr?
What is the longest river in Europe?
How does a vaccine work?
Give me five words that rhyme with light.
What is the formula for the area of a circle?
When did the Berlin Wall fall?
Is seven a prime number?
What do I need to pack for a week in the mountains?
Describe a sunset in one sentence.
Who painted The Starry Night?
How do I tie a tie?
What is the main ingredient of hummus?
Which sport is played at Wimbledon?
Tell me a joke about a penguin.
What happens when water freezes?
How many players are in a football team?
What is the capital of Portugal?
Suggest a title for a story about a lost key.
What is an example of a mammal that can fly?
How do I start saving money?
What are the symptoms of a cold?
Which instrument has 88 keys?
What is the opposite of generous?
Finish this sentence: The early bird
Why do leaves change colour in autumn?
What is the meaning of life?
How many states are in Australia?
Who is the author of The Little Prince?
What is the first step in planning a wedding?
Convert 10 miles to kilometres.
What should I say in a job interview?
How old is the universe?
What is the chemical formula of table salt?
Name two famous composers from Vienna.
What is the best time of year to plant tomatoes?
How can I sleep better?
Which country gave the Statue of Liberty to America?
What are the primary colours of light?
Rewrite this politely: give me the report now.
What is half of 250?
How do bees find flowers?
What is the rule for using a semicolon in English?
Which gas do we breathe in?
Who discovered penicillin?
Make a list of things to do on a rainy day.
What is the boiling point of alcohol?
What is the name of a baby kangaroo?
How do I ask someone to be my friend?
What makes a good leader?
How does a battery store energy?
Where do polar bears live?
What is the difference between weather and climate?
Give me a recipe for vegetable soup.
How do I change a flat tyre?
Which letter comes after Q?
What was the Renaissance?
Is a whale a fish?
Think of a slogan for a bakery.
What is the population of Canada?
How do I write a for loop?
What is the purpose of a database?
How do computers store pictures?
What does an operating system do?
Why does my laptop get hot?
How do I choose a strong password?
What is the difference between hardware and software?
Who founded the company that makes the iPhone?
What is a search engine?
How does email reach another person?
What are the rules of chess?
Tell me something interesting about octopuses.
Which year did humans first walk on the moon?
What is the sum of the angles in a triangle?
Should I take an umbrella today?
What is the nearest star to the earth?
How many bones does an adult have?
What is your favourite season?
Who is the king in a deck of cards?
What can I do about a noisy neighbour?
What is the tallest building in the world?
Does sound travel faster in water or in air?
Give an example of a metaphor.
What is a balanced diet?
""".splitlines()
)


def background_queries(tokenizer: ChatTokenizer) -> list[Query]:
    """Every ordinary question as it is asked, at the position that predicts the answer's first token."""
    queries = [prompt_query(tokenizer, Prompt(question)) for question in (*QUESTIONS, *ordinary_prompts())]
    return [Query(query.ids, query.content, len(query.ids) - 1) for query in queries]
